        // A margin becomes the weight of its row in the cross products, w p (1 - p).
        if (inside && lane == 0u) {
            let v = m[at];
            let e = exp_below(-abs(v));
            let s = 1.0 / (1.0 + e);
            h[r] = used.x * s * (e * s);
        }
