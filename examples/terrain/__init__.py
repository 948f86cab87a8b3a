"""The parts of the demo: what is surveyed, who surveys it, how it looks."""
