//! Random bits from the kernel.

use kvm_compose::error::Problem;

/// 256 random bits in hexadecimal.
pub fn random() -> Result<String, Problem> {
    let mut random = [0u8; 32];
    let mut filled = 0;
    while filled < random.len() {
        filled += rustix::rand::getrandom(&mut random[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|error| Problem::io("cannot get random bits", &error.into()))?;
    }
    Ok(random.iter().fold(String::with_capacity(64), |text, byte| format!("{text}{byte:02x}")))
}
