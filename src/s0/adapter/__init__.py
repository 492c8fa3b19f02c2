"""S0 as PEFT sees it, and as it lies on disk; the method itself is in `s0.core`."""
