"""Results to look at: a record as one page (`report`) and its plots, and how both put figures and findings in words."""
