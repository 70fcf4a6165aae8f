"""Text processing: safe characters, HTML, tables, schemas, and detection of likely secrets."""
