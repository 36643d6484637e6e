"""Sort shop products into categories from a title, an optional description and a photo."""
