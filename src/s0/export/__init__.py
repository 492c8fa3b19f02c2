"""States in the formats of other programs."""
