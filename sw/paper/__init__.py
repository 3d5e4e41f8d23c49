"""The paper's figures, computed again: under its authors' assumptions, and on this hardware."""
