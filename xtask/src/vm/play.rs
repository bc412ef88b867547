//! Several guests at once, by their names.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};

/// What a guest is for.
pub trait Part: Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;
}

/// The parts of these names; all without one.
pub fn chosen<'p, P: Part>(all: &'p [P], only: &[String]) -> Result<Vec<&'p P>> {
    let names: Vec<_> = all.iter().map(Part::name).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("no {unknown:?}; there are {}", names.join(", "));
    }
    let is_chosen = |part: &&P| only.is_empty() || only.iter().any(|name| name == part.name());
    Ok(all.iter().filter(is_chosen).collect())
}

/// Plays them, as many at once as there are processors, since a guest has one, and says of each how it
/// went.
pub fn play_all<P: Part>(
    verb: &str,
    parts: &[&P],
    play: impl Fn(&P) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    let play_on = || {
        while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (name, started) = (part.name(), Instant::now());
            let result = play(part);
            let seconds = started.elapsed().as_secs_f32();
            match result {
                Ok(()) => println!("{verb}: {name}: passed, {seconds:.1} s"),
                Err(error) => {
                    println!("{verb}: {name}: FAILED, {seconds:.1} s\n{error:#}");
                    failed.lock().unwrap_or_else(PoisonError::into_inner).push(name);
                }
            }
        }
    };
    let at_once = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(play_on);
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failed.is_empty() {
        bail!("{verb} failed: {}", failed.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::*;

    #[derive(Debug)]
    struct Named(&'static str);

    impl Part for Named {
        fn name(&self) -> &'static str {
            self.0
        }
    }

    #[test]
    fn parts_are_chosen_by_name() {
        let all = [Named("a"), Named("b")];
        assert_eq!(chosen(&all, &[]).unwrap().len(), 2);
        assert_eq!(chosen(&all, &["b".into()]).unwrap()[0].0, "b");
        let said = chosen(&all, &["c".into()]).unwrap_err().to_string();
        assert_eq!(said, "no \"c\"; there are a, b");
    }

    #[test]
    fn all_parts_are_played_and_each_failure_is_named() {
        let all = [Named("a"), Named("b"), Named("c")];
        let parts: Vec<_> = all.iter().collect();
        let played = Mutex::new(Vec::new());
        let result = play_all("try", &parts, |part| {
            played.lock().unwrap().push(part.0);
            ensure!(part.0 != "b", "no b");
            Ok(())
        });
        assert_eq!(result.unwrap_err().to_string(), "try failed: b");
        played.lock().unwrap().sort_unstable();
        assert_eq!(*played.lock().unwrap(), ["a", "b", "c"]);
        play_all("try", &parts, |_| Ok(())).unwrap();
    }
}
