//! WGSL for tiles in workgroup memory, which several kernels call.

/// Where rows lie in a tile: `place`.
pub(super) const PLACE: &str = include_str!("tile.wgsl");
/// Products of one row with four: `add_products`.
pub(super) const PRODUCTS: &str = include_str!("products.wgsl");
