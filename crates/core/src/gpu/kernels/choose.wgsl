// choose: the column of one row of logits that is chosen, by temperature, top-k, top-p and min-p.
//
//   x [1, cols], bits of f32 -> ids [1]; 0xffffffff where a logit is NaN or infinite
//
// One workgroup. Thresholds are found bit by bit among the ranks, unsigned numbers that are ordered
// as the logits are: no list has to be sorted. Sums are added in one order, so that equal logits
// give equal tokens. Dispatch (1, 1, 1).
// Truth: Choice::of, but for numbers within rounding of a boundary.

struct Params { cols: u32, top_k: u32, temperature: f32, top_p: f32, min_p: f32, unit: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> ids: array<u32>;

const THREADS = 256u;
const NOT_FINITE = 0xffffffffu;

var<workgroup> ranks: array<u32, 256>;
var<workgroup> columns: array<u32, 256>;
var<workgroup> counts: array<u32, 256>;
var<workgroup> some_counts: array<u32, 16>;
var<workgroup> sums: array<f32, 256>;
var<workgroup> some_sums: array<f32, 16>;
var<workgroup> chosen: u32;

fn rank_at(column: u32) -> u32 {
    let bits = x[column];
    if (bits & 0x7f800000u) == 0x7f800000u {
        return NOT_FINITE;
    }
    if bits >> 31u == 0u {
        return bits | 0x80000000u;
    }
    // 0 and -0 are equal.
    return select(~bits, 0x80000000u, bits == 0x80000000u);
}

fn value_of(rank: u32) -> f32 {
    return bitcast<f32>(select(~rank, rank & 0x7fffffffu, rank >> 31u == 1u));
}

fn weight_of(rank: u32, best: f32) -> f32 {
    return exp(max((value_of(rank) - best) / p.temperature, -100.0));
}

// The sum over all threads, the same in each.
fn count_all(thread: u32, mine: u32) -> u32 {
    counts[thread] = mine;
    workgroupBarrier();
    if thread < 16u {
        var some = 0u;
        for (var i = 0u; i < 16u; i++) {
            some += counts[thread * 16u + i];
        }
        some_counts[thread] = some;
    }
    workgroupBarrier();
    var all = 0u;
    for (var i = 0u; i < 16u; i++) {
        all += some_counts[i];
    }
    return all;
}

fn sum_all(thread: u32, mine: f32) -> f32 {
    sums[thread] = mine;
    workgroupBarrier();
    if thread < 16u {
        var some = 0.0;
        for (var i = 0u; i < 16u; i++) {
            some += sums[thread * 16u + i];
        }
        some_sums[thread] = some;
    }
    workgroupBarrier();
    var all = 0.0;
    for (var i = 0u; i < 16u; i++) {
        all += some_sums[i];
    }
    return all;
}

// How many ranks are `least` or more.
fn count_from(thread: u32, least: u32) -> u32 {
    var count = 0u;
    for (var i = thread; i < p.cols; i += THREADS) {
        count += select(0u, 1u, rank_at(i) >= least);
    }
    return count_all(thread, count);
}

// What they weigh.
fn sum_from(thread: u32, least: u32, best: f32) -> f32 {
    var sum = 0.0;
    for (var i = thread; i < p.cols; i += THREADS) {
        let rank = rank_at(i);
        if rank >= least {
            sum += weight_of(rank, best);
        }
    }
    return sum_all(thread, sum);
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    var best_rank = 0u;
    var best_column = 0u;
    for (var i = thread; i < p.cols; i += THREADS) {
        let rank = rank_at(i);
        if rank > best_rank {
            best_rank = rank;
            best_column = i;
        }
    }
    ranks[thread] = best_rank;
    columns[thread] = best_column;
    workgroupBarrier();
    for (var i = 0u; i < THREADS; i++) {
        if ranks[i] > best_rank || (ranks[i] == best_rank && columns[i] < best_column) {
            best_rank = ranks[i];
            best_column = columns[i];
        }
    }
    if p.temperature == 0.0 {
        if thread == 0u {
            ids[0] = select(best_column, NOT_FINITE, best_rank == NOT_FINITE);
        }
        return;
    }
    let best = value_of(best_rank);

    // What stays: ranks above `least`, and the first `ties` of those that are equal to it.
    var least = 0u;
    var ties = p.cols;
    if p.top_k < p.cols {
        for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
            if count_from(thread, least | bit) >= p.top_k {
                least |= bit;
            }
        }
        ties = p.top_k - count_from(thread, least + 1u);
    }
    if p.top_p < 1.0 {
        let tied = min(count_from(thread, least) - count_from(thread, least + 1u), ties);
        let above = sum_from(thread, least + 1u, best);
        let enough = p.top_p * (above + f32(tied) * weight_of(least, best));
        var needed = 0u;
        for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
            let sum = sum_from(thread, needed | bit, best);
            if (needed | bit) <= least || sum >= enough {
                needed |= bit;
            }
        }
        if needed > least {
            least = needed;
            ties = p.cols;
        }
        let missing = enough - sum_from(thread, least + 1u, best);
        ties = min(ties, u32(ceil(clamp(missing / weight_of(least, best), 1.0, 1e9))));
    }

    // A thread's own run of columns, so that they come in their order.
    let run = (p.cols + THREADS - 1u) / THREADS;
    let from_column = min(thread * run, p.cols);
    let to_column = min(from_column + run, p.cols);
    var own_ties = 0u;
    for (var i = from_column; i < to_column; i++) {
        own_ties += select(0u, 1u, rank_at(i) == least);
    }
    counts[thread] = own_ties;
    workgroupBarrier();
    var ties_before = 0u;
    for (var i = 0u; i < thread; i++) {
        ties_before += counts[i];
    }
    var own = 0.0;
    var seen = ties_before;
    for (var i = from_column; i < to_column; i++) {
        own += kept(rank_at(i), least, ties, &seen, best);
    }
    sums[thread] = own;
    // Rounding can leave a little over at the end, which is nobody's.
    if thread == 0u {
        chosen = best_column;
    }
    workgroupBarrier();
    var before = 0.0;
    var total = 0.0;
    for (var i = 0u; i < THREADS; i++) {
        if i == thread {
            before = total;
        }
        total += sums[i];
    }
    let drawn = p.unit * total;
    if drawn >= before && drawn < before + own {
        var left = drawn - before;
        seen = ties_before;
        for (var i = from_column; i < to_column && left >= 0.0; i++) {
            let weight = kept(rank_at(i), least, ties, &seen, best);
            if weight > 0.0 {
                chosen = i;
                left -= weight;
            }
        }
    }
    workgroupBarrier();
    if thread == 0u {
        ids[0] = select(chosen, NOT_FINITE, best_rank == NOT_FINITE);
    }
}

// The weight of a rank if it stays, or 0; `seen` counts the ties.
fn kept(rank: u32, least: u32, ties: u32, seen: ptr<function, u32>, best: f32) -> f32 {
    if rank < least {
        return 0.0;
    }
    if rank == least {
        *seen += 1u;
        if *seen > ties {
            return 0.0;
        }
    }
    let weight = weight_of(rank, best);
    return select(0.0, weight, weight >= p.min_p);
}
