"""Why a verdict is what it is, and how far to trust the explanation."""
