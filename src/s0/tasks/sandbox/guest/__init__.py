"""What runs inside the jail. Imports the standard library only; its sources are sent in, not installed there."""
