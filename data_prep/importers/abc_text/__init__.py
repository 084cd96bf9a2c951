"""The text of one foreign ABC tune -> a score; the truth of each rule is what abc2midi plays."""
