"""Chapter 01: its exercises, views and quiz."""
