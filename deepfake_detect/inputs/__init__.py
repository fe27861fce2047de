"""Pictures and video frames from anything a caller may hand over."""
