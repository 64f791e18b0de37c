"""Card templates and annotation guidelines; `prefkit.cards` fills them in."""
