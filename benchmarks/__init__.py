"""txstore beside what one would use otherwise, on one machine, in one run. README.md says how to read the figures."""
