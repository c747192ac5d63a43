"""Chapter 03: its exercises, views and quiz."""
