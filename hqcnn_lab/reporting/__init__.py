"""What `python -m hqcnn_lab.report` writes: contents as plain data first, then as a page and as Markdown."""
