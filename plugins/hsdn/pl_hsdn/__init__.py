"""Plugin of pl for Nobeyama 45 m."""
