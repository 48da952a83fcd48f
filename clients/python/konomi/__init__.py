"""konomi: learns one person's taste in images."""
