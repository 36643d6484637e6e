"""What the champion sees and says, and whether that has changed."""
