// attention: softmax(q k' / sqrt(head_dim)) v for many rows of q.
//
//   q [batch * n, heads * head_dim], k, v [batch * keys, 4 kv_stride] as a cache stores them
//   -> y like q
//   row r of a set sees all keys of the set, or, causally, keys 0 .. pos + r
//
// A workgroup takes 32 rows of q of one head and walks over the keys, 64 at a time. Scores: 32
// columns of q and of k at once go through workgroup memory. 16 x 16 threads multiply two rows of q
// by four keys each, which leaves registers for as many threads at once as GPUs want; on a software
// adapter, which counts reads instead, 8 x 8 threads multiply four by eight. Softmax: running
// maximum and total, so that no score outlives its tile. Sum: the weights go through workgroup
// memory too, and each thread adds its rows of every 16th, or 8th, vector of v. Vectors lie along
// columns and keys, nothing is transposed; places in workgroup memory are shuffled, so that
// neighbouring threads meet different banks. What a thread sums up is named, since an array may end
// up outside of the registers.
// head_dim is a multiple of 4; beyond 128, a workgroup computes 128 columns of y.
// Dispatch (ceil(n / 32), heads * ceil(head_dim / 128), batch).

struct Params {
    n: u32,
    keys: u32,
    pos: u32,
    causal: u32,
    heads: u32,
    heads_per_kv: u32,
    dim4: u32,
    kv_stride: u32,
    scale: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;


// Threads along a side: 16 or 8.
override SIDE: u32 = 16u;

// 32 rows of q by 32 columns.
var<workgroup> q_tile: array<vec4f, 256>;
// 64 keys by 32 columns; then 32 rows by the weights of 64 keys.
var<workgroup> k_tile: array<vec4f, 512>;
// What the threads of a row exchange.
var<workgroup> row_scratch: array<f32, 512>;

@compute @workgroup_size(SIDE, SIDE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let head = group.y % p.heads;
    let q_stride = p.heads * p.dim4;
    let kv_stride = p.kv_stride;
    let q_at = group.z * p.n * q_stride + head * p.dim4;
    let kv_at = group.z * p.keys * kv_stride + head / p.heads_per_kv * p.dim4;
    let first_row = group.x * 32u;
    // Rows and keys beyond the last repeat it; such rows are not written, such keys not seen.
    let last_row = p.n - 1u;
    let last_key = p.keys - 1u;
    // What a thread fetches: vector `j_in` of every so many rows and keys.
    let j_in = thread & 7u;
    let fetched = SIDE * SIDE / 8u;
    // What it computes: rows down + SIDE r, keys own_keys across + c, and of v the vectors across +
    // SIDE h.
    let across = thread % SIDE;
    let down = thread / SIDE;
    let own_keys = 64u / SIDE;
    let shuffle = down & 7u;
    let slice = group.y / p.heads * 32u;
    let column = slice + across;

    var end = p.keys;
    if p.causal != 0u {
        end = min(p.pos + min(first_row + 31u, last_row) + 1u, p.keys);
    }
    var largest0 = UNSEEN;
    var largest1 = UNSEEN;
    var largest2 = UNSEEN;
    var largest3 = UNSEEN;
    var total0 = 0.0;
    var total1 = 0.0;
    var total2 = 0.0;
    var total3 = 0.0;
    var sum00 = vec4f();
    var sum01 = vec4f();
    var sum02 = vec4f();
    var sum03 = vec4f();
    var sum10 = vec4f();
    var sum11 = vec4f();
    var sum12 = vec4f();
    var sum13 = vec4f();
    var sum20 = vec4f();
    var sum21 = vec4f();
    var sum22 = vec4f();
    var sum23 = vec4f();
    var sum30 = vec4f();
    var sum31 = vec4f();
    var sum32 = vec4f();
    var sum33 = vec4f();
    for (var key0 = 0u; key0 < end; key0 += 64u) {
        var a0 = vec4f(); // Row 0, keys 0 .. 3.
        var a1 = vec4f();
        var a2 = vec4f();
        var a3 = vec4f();
        var b0 = vec4f(); // Row 0, keys 4 .. 7.
        var b1 = vec4f();
        var b2 = vec4f();
        var b3 = vec4f();
        for (var d = 0u; d < p.dim4; d += 8u) {
            let in_head = d + j_in < p.dim4;
            for (var r = thread >> 3u; r < 32u; r += fetched) {
                let at = q_at + min(first_row + r, last_row) * q_stride + d + j_in;
                q_tile[r * 8u + (j_in ^ (r & 7u))] = select(vec4f(), q[at], in_head);
            }
            for (var r = thread >> 3u; r < 64u; r += fetched) {
                let at = kv_at + min(key0 + r, last_key) * kv_stride + d + j_in;
                let place = r * 8u + (j_in ^ ((r / own_keys) & 7u));
                k_tile[place] = select(vec4f(), key_at(at), in_head);
            }
            workgroupBarrier();
            // A bound that compilers don't know keeps them from unrolling what would not fit.
            let vectors = min(p.dim4 - d, 8u);
            for (var j = 0u; j < vectors; j++) {
                // SIDE rows on, a place is 8 SIDE vectors on; one key on, 8.
                let x_at = down * 8u + (j ^ shuffle);
                let w_at = across * own_keys * 8u + (j ^ (across & 7u));
                let x0 = q_tile[x_at];
                let x1 = q_tile[x_at + SIDE * 8u];
                let w0 = k_tile[w_at];
                let w1 = k_tile[w_at + 8u];
                let w2 = k_tile[w_at + 16u];
                let w3 = k_tile[w_at + 24u];
                a0 = add_products(a0, x0, w0, w1, w2, w3);
                a1 = add_products(a1, x1, w0, w1, w2, w3);
                if SIDE == 8u {
                    let x2 = q_tile[x_at + 128u];
                    let x3 = q_tile[x_at + 192u];
                    a2 = add_products(a2, x2, w0, w1, w2, w3);
                    a3 = add_products(a3, x3, w0, w1, w2, w3);
                    let w4 = k_tile[w_at + 32u];
                    let w5 = k_tile[w_at + 40u];
                    let w6 = k_tile[w_at + 48u];
                    let w7 = k_tile[w_at + 56u];
                    b0 = add_products(b0, x0, w4, w5, w6, w7);
                    b1 = add_products(b1, x1, w4, w5, w6, w7);
                    b2 = add_products(b2, x2, w4, w5, w6, w7);
                    b3 = add_products(b3, x3, w4, w5, w6, w7);
                }
            }
            workgroupBarrier();
        }

        let key = key0 + across * own_keys;
        let seen0 = seen_by(first_row + down);
        let seen1 = seen_by(first_row + down + SIDE);
        a0 = masked(a0, key, seen0);
        a1 = masked(a1, key, seen1);
        var most0 = a0;
        var most1 = a1;
        if SIDE == 8u {
            b0 = masked(b0, key + 4u, seen0);
            b1 = masked(b1, key + 4u, seen1);
            most0 = max(a0, b0);
            most1 = max(a1, b1);
            let seen2 = seen_by(first_row + down + 16u);
            let seen3 = seen_by(first_row + down + 24u);
            a2 = masked(a2, key, seen2);
            b2 = masked(b2, key + 4u, seen2);
            a3 = masked(a3, key, seen3);
            b3 = masked(b3, key + 4u, seen3);
            row_scratch[(down + 16u) * SIDE + across] = largest_of(max(a2, b2));
            row_scratch[(down + 24u) * SIDE + across] = largest_of(max(a3, b3));
        }
        row_scratch[down * SIDE + across] = largest_of(most0);
        row_scratch[(down + SIDE) * SIDE + across] = largest_of(most1);
        workgroupBarrier();
        let now0 = max(largest0, row_largest(down));
        let now1 = max(largest1, row_largest(down + SIDE));
        let fade0 = exp(largest0 - now0);
        let fade1 = exp(largest1 - now1);
        largest0 = now0;
        largest1 = now1;
        a0 = exp(a0 - now0);
        a1 = exp(a1 - now1);
        total0 = total0 * fade0 + dot(a0, vec4f(1.0));
        total1 = total1 * fade1 + dot(a1, vec4f(1.0));
        put_weights(down, across * (own_keys / 4u), a0);
        put_weights(down + SIDE, across * (own_keys / 4u), a1);
        sum00 *= fade0; sum10 *= fade1;
        sum01 *= fade0; sum11 *= fade1;
        if SIDE == 8u {
            b0 = exp(b0 - now0);
            b1 = exp(b1 - now1);
            total0 += dot(b0, vec4f(1.0));
            total1 += dot(b1, vec4f(1.0));
            put_weights(down, across * 2u + 1u, b0);
            put_weights(down + 8u, across * 2u + 1u, b1);
            sum02 *= fade0; sum12 *= fade1;
            sum03 *= fade0; sum13 *= fade1;
            let now2 = max(largest2, row_largest(down + 16u));
            let now3 = max(largest3, row_largest(down + 24u));
            let fade2 = exp(largest2 - now2);
            let fade3 = exp(largest3 - now3);
            largest2 = now2;
            largest3 = now3;
            a2 = exp(a2 - now2);
            b2 = exp(b2 - now2);
            a3 = exp(a3 - now3);
            b3 = exp(b3 - now3);
            total2 = total2 * fade2 + dot(a2 + b2, vec4f(1.0));
            total3 = total3 * fade3 + dot(a3 + b3, vec4f(1.0));
            put_weights(down + 16u, across * 2u, a2);
            put_weights(down + 16u, across * 2u + 1u, b2);
            put_weights(down + 24u, across * 2u, a3);
            put_weights(down + 24u, across * 2u + 1u, b3);
            sum20 *= fade2; sum30 *= fade3;
            sum21 *= fade2; sum31 *= fade3;
            sum22 *= fade2; sum32 *= fade3;
            sum23 *= fade2; sum33 *= fade3;
        }
        workgroupBarrier();
        // Four keys at a time.
        let fours = (min(end - key0, 64u) + 3u) / 4u;
        for (var i = 0u; i < fours; i++) {
            let x_at = down * 16u + (i ^ shuffle);
            let x0 = k_tile[x_at];
            let x1 = k_tile[x_at + SIDE * 16u];
            var x2 = vec4f();
            var x3 = vec4f();
            if SIDE == 8u {
                x2 = k_tile[x_at + 256u];
                x3 = k_tile[x_at + 384u];
            }
            let at0 = kv_at + min(key0 + i * 4u, last_key) * kv_stride + column;
            let at1 = kv_at + min(key0 + i * 4u + 1u, last_key) * kv_stride + column;
            let at2 = kv_at + min(key0 + i * 4u + 2u, last_key) * kv_stride + column;
            let at3 = kv_at + min(key0 + i * 4u + 3u, last_key) * kv_stride + column;
            {
                let v0 = value_at(at0);
                let v1 = value_at(at1);
                let v2 = value_at(at2);
                let v3 = value_at(at3);
                sum00 = weighted(sum00, x0, v0, v1, v2, v3);
                sum10 = weighted(sum10, x1, v0, v1, v2, v3);
                if SIDE == 8u {
                    sum20 = weighted(sum20, x2, v0, v1, v2, v3);
                    sum30 = weighted(sum30, x3, v0, v1, v2, v3);
                }
            }
            if slice + SIDE < p.dim4 {
                let v0 = value_at(at0 + SIDE);
                let v1 = value_at(at1 + SIDE);
                let v2 = value_at(at2 + SIDE);
                let v3 = value_at(at3 + SIDE);
                sum01 = weighted(sum01, x0, v0, v1, v2, v3);
                sum11 = weighted(sum11, x1, v0, v1, v2, v3);
                if SIDE == 8u {
                    sum21 = weighted(sum21, x2, v0, v1, v2, v3);
                    sum31 = weighted(sum31, x3, v0, v1, v2, v3);
                }
            }
            if SIDE == 8u && slice + 16u < p.dim4 {
                let v0 = value_at(at0 + SIDE * 2u);
                let v1 = value_at(at1 + SIDE * 2u);
                let v2 = value_at(at2 + SIDE * 2u);
                let v3 = value_at(at3 + SIDE * 2u);
                sum02 = weighted(sum02, x0, v0, v1, v2, v3);
                sum12 = weighted(sum12, x1, v0, v1, v2, v3);
                sum22 = weighted(sum22, x2, v0, v1, v2, v3);
                sum32 = weighted(sum32, x3, v0, v1, v2, v3);
            }
            if SIDE == 8u && slice + 24u < p.dim4 {
                let v0 = value_at(at0 + SIDE * 3u);
                let v1 = value_at(at1 + SIDE * 3u);
                let v2 = value_at(at2 + SIDE * 3u);
                let v3 = value_at(at3 + SIDE * 3u);
                sum03 = weighted(sum03, x0, v0, v1, v2, v3);
                sum13 = weighted(sum13, x1, v0, v1, v2, v3);
                sum23 = weighted(sum23, x2, v0, v1, v2, v3);
                sum33 = weighted(sum33, x3, v0, v1, v2, v3);
            }
        }
        workgroupBarrier();
    }

    row_scratch[down * SIDE + across] = total0;
    row_scratch[(down + SIDE) * SIDE + across] = total1;
    if SIDE == 8u {
        row_scratch[(down + 16u) * SIDE + across] = total2;
        row_scratch[(down + 24u) * SIDE + across] = total3;
    }
    workgroupBarrier();
    write(first_row, down, q_at, column, sum00, sum01, sum02, sum03);
    write(first_row, down + SIDE, q_at, column, sum10, sum11, sum12, sum13);
    if SIDE == 8u {
        write(first_row, down + 16u, q_at, column, sum20, sum21, sum22, sum23);
        write(first_row, down + 24u, q_at, column, sum30, sum31, sum32, sum33);
    }
}

// The keys that a row sees: those before this one.
fn seen_by(row: u32) -> u32 {
    return select(p.keys, min(p.pos + row + 1u, p.keys), p.causal != 0u);
}

// Scores of four keys, scaled.
fn masked(scores: vec4f, key: u32, seen: u32) -> vec4f {
    let keys = vec4u(key) + vec4u(0u, 1u, 2u, 3u);
    return select(vec4f(UNSEEN), scores * p.scale, keys < vec4u(seen));
}

fn largest_of(v: vec4f) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

fn row_largest(row: u32) -> f32 {
    var largest = row_scratch[row * SIDE];
    for (var i = 1u; i < SIDE; i++) {
        largest = max(largest, row_scratch[row * SIDE + i]);
    }
    return largest;
}

fn row_total(row: u32) -> f32 {
    var total = 0.0;
    for (var i = 0u; i < SIDE; i++) {
        total += row_scratch[row * SIDE + i];
    }
    return total;
}

// The weights of the i-th four keys, in the place of the keys.
fn put_weights(row: u32, i: u32, weights: vec4f) {
    k_tile[row * 16u + (i ^ (row & 7u))] = weights;
}

// To one vector, four of v by their weights.
fn weighted(sum: vec4f, x: vec4f, v0: vec4f, v1: vec4f, v2: vec4f, v3: vec4f) -> vec4f {
    return sum + (x.x * v0 + x.y * v1 + x.z * v2 + x.w * v3);
}

// One row of y: the vectors at `column`, and SIDE, 2 SIDE and 3 SIDE on, as many as a thread has.
fn write(first: u32, r: u32, q_at: u32, column: u32, v0: vec4f, v1: vec4f, v2: vec4f, v3: vec4f) {
    if first + r >= p.n {
        return;
    }
    let scale = 1.0 / row_total(r);
    let at = q_at + (first + r) * p.heads * p.dim4 + column;
    if column < p.dim4 { y[at] = v0 * scale; }
    if column + SIDE < p.dim4 { y[at + SIDE] = v1 * scale; }
    if SIDE == 8u && column + 16u < p.dim4 { y[at + 16u] = v2 * scale; }
    if SIDE == 8u && column + 24u < p.dim4 { y[at + 24u] = v3 * scale; }
}
