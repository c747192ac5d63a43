"""Chapter 04: its exercises, views and quiz."""
