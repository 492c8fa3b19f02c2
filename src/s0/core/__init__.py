"""The method: a state, where it enters a model, and how rows choose among several. It opens no file."""
