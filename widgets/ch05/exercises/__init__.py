"""Chapter 05: one file an exercise, `eK_topic.py`, with its object `E`."""
