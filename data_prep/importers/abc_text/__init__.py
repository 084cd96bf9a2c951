"""The text of one foreign ABC tune -> its voices; each rule follows abc2midi."""
