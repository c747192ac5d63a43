"""The views of this chapter."""
