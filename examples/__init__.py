"""Systems of two textbooks and of papers, each a script: `python -m examples.NAME`. README.md has table and sources."""
