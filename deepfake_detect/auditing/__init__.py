"""What would make a detector learn something else than forgery."""
