"""The systems of the documents, each a script: `python -m examples.NAME`. README.md has the table."""
