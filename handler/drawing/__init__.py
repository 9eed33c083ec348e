"""Pictures of the reasons: stimuli, heat maps, the emotion wheel. No archive holds this room."""
