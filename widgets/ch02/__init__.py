"""Chapter 02: its exercises, views and quiz."""
