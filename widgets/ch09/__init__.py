"""Chapter 09: its exercises, views and quiz."""
