"""Tables and findings, generated from the files in results/ into the pages."""
