//! A digest of what a run does not change, by which a resumed run knows that it starts from the same model.

use tuwen_nn::{Kind, Parameters};

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a over names and bit patterns of everything that does not learn; running statistics are left out.
pub(crate) fn digest(parameters: &Parameters) -> u64 {
    let frozen = parameters.iter().filter(|entry| entry.kind != Kind::Buffer && !entry.param.is_trainable());
    frozen.fold(OFFSET, |hash, entry| {
        let hash = entry.name.bytes().fold(hash, |hash, byte| mix(hash, byte.into()));
        entry.param.value().to_vec().iter().fold(hash, |hash, value| mix(hash, value.to_bits().into()))
    })
}

fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(PRIME)
}

#[cfg(test)]
mod tests {
    use tuwen_nn::{Init, Scope};
    use tuwen_tensor::Tensor;

    use super::*;

    #[test]
    fn it_tells_of_frozen_values_only() {
        let scope = Scope::init(1);
        let [a, b] = ["a", "b"].map(|name| scope.param(name, &[2], Init::ONES));
        let parameters = scope.finish().expect("nothing is loaded");
        b.set_trainable(false);
        let before = digest(&parameters);
        a.assign(&Tensor::full(3.0, &[2]));
        assert_eq!(digest(&parameters), before);
        b.assign(&Tensor::new(&[1.0, f32::from_bits(1.0_f32.to_bits() + 1)], &[2]));
        assert_ne!(digest(&parameters), before);
    }
}
