"""YAML -> Spec -> Graph -> better Graph. Knows no backend and no data set."""
