        // The weight of a row in the cross products is its own.
        if (inside && lane == 0u) { h[r] = used.x; }
