"""Whether what the champion sees and says has changed: tests that keep their false-alarm rate, and what to do about it."""
