"""All that matplotlib and plotly draw, from plain numbers."""
