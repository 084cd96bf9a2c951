"""What all writers share: files that appear whole, command lines, tables, numbers in words."""
