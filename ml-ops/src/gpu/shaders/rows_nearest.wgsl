        // The index of the nearest centre, the lowest of those that are equally near.
        var best = 3.4e38;
        var which = 0u;
        for (var k = lane; k < p.classes; k += T) {
            let d = m[at + k];
            if (d < best) { best = d; which = k; }
        }
        red[lid] = best;
        place[lid] = which;
        workgroupBarrier();
        for (var s = T / 2u; s > 0u; s >>= 1u) {
            if (lane < s) {
                let d = red[lid + s];
                let k = place[lid + s];
                if (d < red[lid] || (d == red[lid] && k < place[lid])) { red[lid] = d; place[lid] = k; }
            }
            workgroupBarrier();
        }
        if (inside && lane == 0u) {
            h[r] = used.x;
            nearest[r] = place[lid];
            totals += vec4<f32>(used.x * red[lid], used.y * red[lid], 0.0, 0.0);
        }
        workgroupBarrier();
