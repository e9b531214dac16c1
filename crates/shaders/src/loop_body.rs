//! Counts of instructions within loops, out of AMD's disassembly.

use std::collections::HashMap;

/// Returns the arithmetic instructions of the loop that has the most of them; `None` where it has a
/// loop within, whose passes nobody can count, and where there is no loop.
///
/// The disassembly names the blocks `BB3:` and branches to them, `s_cbranch_scc1 BB3`. A branch
/// back closes a loop: all between belongs to it.
pub fn largest_loop_valu(disassembly: &str) -> Option<u64> {
    // How many instructions stand before each block.
    let mut blocks: HashMap<&str, u64> = HashMap::new();
    let mut valu = 0;
    let mut loops: Vec<(u64, u64)> = Vec::new();
    for line in disassembly.lines() {
        let line = line.trim();
        if let Some(block) = line.strip_suffix(':').filter(|name| is_block(name)) {
            blocks.insert(block, valu);
            continue;
        }
        let mut words = line.split_whitespace();
        let Some(instruction) = words.next() else {
            continue;
        };
        if instruction.starts_with("v_") {
            valu += 1;
        }
        if instruction.starts_with("s_branch") || instruction.starts_with("s_cbranch") {
            let target = words.next().unwrap_or_default();
            if let Some(&before) = blocks.get(target) {
                loops.push((before, valu));
            }
        }
    }
    let (start, end) = loops
        .iter()
        .copied()
        .max_by_key(|(start, end)| end - start)?;
    // Several branches may lead back to one start.
    let nested = loops.iter().any(|&(other, _)| other > start && other < end);
    (!nested).then_some(end - start)
}

fn is_block(name: &str) -> bool {
    name.strip_prefix("BB")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_what_lies_between_a_block_and_the_branch_back_to_it() {
        let disassembly = "BB0:\n\
            \tv_mov_b32_e32 v1, 0 ; 7e020280\n\
            \ts_cbranch_execz BB3 ; bfa50010\n\
            BB1:\n\
            \tv_add_u32_e32 v0, v1, v2 ; 68000501\n\
            \ts_cbranch_scc1 BB1 ; bf85fff0\n\
            BB2:\n\
            \tv_fma_f32 v0, v1, v2, v3 ; d1cb0000\n\
            \ts_cbranch_scc0 BB2 ; bf85fff0\n\
            \tv_fma_f32 v4, v1, v2, v3 ; d1cb0004\n\
            \ts_branch BB2 ; bf82ffe0\n\
            BB3:\n\
            \tv_mov_b32_e32 v1, 0 ; 7e020280\n";
        assert_eq!(largest_loop_valu(disassembly), Some(2));
        assert_eq!(largest_loop_valu("v_mov_b32_e32 v1, 0\n"), None);
    }

    #[test]
    fn a_loop_around_another_has_no_count() {
        let disassembly = "BB1:\n\
            \tv_add_u32_e32 v0, v1, v2 ; 68000501\n\
            BB2:\n\
            \tv_fma_f32 v0, v1, v2, v3 ; d1cb0000\n\
            \ts_cbranch_scc1 BB2 ; bf85fff0\n\
            \ts_branch BB1 ; bf82ffe0\n";
        assert_eq!(largest_loop_valu(disassembly), None);
    }
}
