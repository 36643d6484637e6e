"""The champion, for those who ask."""
