"""earmark turns labelled recordings into a registered sound classifier and keeps it good as recordings arrive."""
