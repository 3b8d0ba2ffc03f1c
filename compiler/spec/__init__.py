"""Reading: YAML 1.2 with source spans, expressions, blocks, sections, diagnostics, schema."""
