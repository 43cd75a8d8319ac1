        if (inside) {
            let off = z[at] - y[row] * p.f.y;
            total += w * off * off * 0.5;
            z[at] = w * p.f.x * off;
        }
