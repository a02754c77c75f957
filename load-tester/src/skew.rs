//! How peers spread over swarms: from all alike to a few that have nearly all.

use crate::random::Random;

/// How peers spread over swarms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Skew {
    /// Every swarm is equally likely.
    Uniform,
    /// Swarm index = u³ · swarms: a few big swarms, a long tail.
    Cubic,
    /// Swarm of rank k with probability proportional to k^-s; s > 0.
    Zipf(f64),
}

/// Draws swarm indices with a skew.
pub enum Sampler {
    /// Among so many.
    Uniform {
        /// How many there are.
        swarms: u32,
    },
    /// Among so many.
    Cubic {
        /// How many there are.
        swarms: u32,
    },
    /// By rank.
    Zipf(Zipf),
}

impl Sampler {
    /// Draws from 0..`swarms`.
    pub fn new(skew: Skew, swarms: u32) -> Sampler {
        match skew {
            Skew::Uniform => Sampler::Uniform { swarms },
            Skew::Cubic => Sampler::Cubic { swarms },
            Skew::Zipf(exponent) => Sampler::Zipf(Zipf::new(exponent, swarms)),
        }
    }

    /// The next swarm.
    pub fn draw(&self, random: &mut Random) -> u32 {
        match self {
            Sampler::Uniform { swarms } => random.below(u64::from(*swarms)) as u32,
            Sampler::Cubic { swarms } => {
                let u = random.unit();
                ((u * u * u * f64::from(*swarms)) as u32).min(swarms - 1)
            }
            Sampler::Zipf(zipf) => zipf.draw(random),
        }
    }

    /// How many of `peers` draws fall on `swarm` on average.
    pub fn expected(&self, swarm: u32, peers: f64) -> f64 {
        match self {
            Sampler::Uniform { swarms } => peers / f64::from(*swarms),
            Sampler::Cubic { swarms } => {
                let edge = |swarm: f64| (swarm / f64::from(*swarms)).cbrt();
                peers * (edge(f64::from(swarm) + 1.0) - edge(f64::from(swarm)))
            }
            Sampler::Zipf(zipf) => {
                let total = zipf.integral_last - zipf.integral_first;
                peers * (f64::from(swarm) + 1.0).powf(-zipf.exponent) / total
            }
        }
    }
}

/// Exact Zipf ranks in constant time and memory: rejection-inversion (Hörmann
/// and Derflinger, "Rejection-inversion to generate variates from monotone
/// discrete distributions", 1996).
pub struct Zipf {
    exponent: f64,
    swarms: f64,
    integral_first: f64,
    integral_last: f64,
    shortcut: f64,
}

impl Zipf {
    fn new(exponent: f64, swarms: u32) -> Zipf {
        let mut zipf = Zipf {
            exponent,
            swarms: f64::from(swarms),
            integral_first: 0.0,
            integral_last: 0.0,
            shortcut: 0.0,
        };
        zipf.integral_first = zipf.integral(1.5) - 1.0;
        zipf.integral_last = zipf.integral(zipf.swarms + 0.5);
        zipf.shortcut = 2.0 - zipf.inverse(zipf.integral(2.5) - 2f64.powf(-exponent));
        zipf
    }

    fn draw(&self, random: &mut Random) -> u32 {
        loop {
            let u = self.integral_last + random.unit() * (self.integral_first - self.integral_last);
            let x = self.inverse(u);
            let rank = (x + 0.5).floor().clamp(1.0, self.swarms);
            if rank - x <= self.shortcut
                || u >= self.integral(rank + 0.5) - rank.powf(-self.exponent)
            {
                return rank as u32 - 1;
            }
        }
    }

    /// An antiderivative of x^-exponent that is also good near exponent 1.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let t = (1.0 - self.exponent) * log;
        let factor = if t.abs() > 1e-8 {
            t.exp_m1() / t
        } else {
            1.0 + t / 2.0
        };
        factor * log
    }

    /// The inverse of [`Zipf::integral`].
    fn inverse(&self, y: f64) -> f64 {
        let t = (y * (1.0 - self.exponent)).max(-1.0);
        let factor = if t.abs() > 1e-8 {
            t.ln_1p() / t
        } else {
            1.0 - t / 2.0
        };
        (factor * y).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_ranks_follow_the_law() {
        for exponent in [0.5, 1.0, 1.4] {
            let swarms = 1000;
            let zipf = Zipf::new(exponent, swarms);
            let mut random = Random::new(42);
            let mut counts = vec![0u32; swarms as usize];
            let draws = 400_000;
            for _ in 0..draws {
                counts[zipf.draw(&mut random) as usize] += 1;
            }
            let total: f64 = (1..=swarms).map(|k| f64::from(k).powf(-exponent)).sum();
            for rank in [1u32, 2, 3, 10, 50] {
                let expected = f64::from(draws) * f64::from(rank).powf(-exponent) / total;
                let seen = f64::from(counts[rank as usize - 1]);
                // Five standard deviations of a binomial count.
                let allowed = 5.0 * expected.sqrt();
                assert!(
                    (seen - expected).abs() < allowed,
                    "s {exponent} rank {rank}: {seen}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn cubic_skew_puts_half_the_peers_in_an_eighth_of_the_swarms() {
        let sampler = Sampler::new(Skew::Cubic, 80_000);
        let mut random = Random::new(1);
        let low = (0..100_000)
            .filter(|_| sampler.draw(&mut random) < 10_000)
            .count();
        assert!((49_000..51_000).contains(&low), "{low}");
    }
}
