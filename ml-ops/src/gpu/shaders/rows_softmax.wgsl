        // Margins become weighted residuals w (p_k - [y = k]).
        var top = -3.0e38;
        for (var k = lane; k < p.classes; k += T) { top = max(top, m[at + k]); }
        top = largest(top, lid);
        var sum = 0.0;
        for (var k = lane; k < p.classes; k += T) { sum += exp_below(m[at + k] - top); }
        sum = together(sum, lid);
        if (inside) {
            let own = select(p.classes, u32(y[r]), used.x != 0.0 || used.y != 0.0);
            if (lane == 0u && own < p.classes) {
                let value = ln_above(sum) + (top - m[at + own]);
                totals += vec4<f32>(used.x * value, used.y * value, 0.0, 0.0);
            }
        }
        workgroupBarrier();
        if (inside) {
            let own = u32(y[r]);
            for (var k = lane; k < p.stride; k += T) {
                let hit = select(0.0, 1.0, k == own);
                let e = select(0.0, exp_below(m[at + k] - top) / sum - hit, k < p.classes && used.x != 0.0);
                m[at + k] = used.x * e;
            }
        }
