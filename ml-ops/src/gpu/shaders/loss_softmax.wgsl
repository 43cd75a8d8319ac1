        var top = -3.0e38;
        for (var k = lane; k < p.n.z; k += T) { top = max(top, z[at + k]); }
        top = largest(top, lid);
        var sum = 0.0;
        for (var k = lane; k < p.n.z; k += T) { sum += exp_below(z[at + k] - top); }
        sum = together(sum, lid);
        let own = u32(y[row]);
        if (inside && lane == 0u && own < p.n.z) { total += w * (ln_above(sum) + (top - z[at + own])); }
        workgroupBarrier();
        if (inside) {
            for (var k = lane; k < p.n.w; k += T) {
                let hit = select(0.0, 1.0, k == own);
                z[at + k] = select(0.0, w * p.f.x * (exp_below(z[at + k] - top) / sum - hit), k < p.n.z);
            }
        }
