"""What can be typed after `s0`: each command with its options, and one call of what does the work.

Nothing here imports torch before a command runs, so that help is instant.
"""
