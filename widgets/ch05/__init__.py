"""Chapter 05: its exercises, views and quiz."""
