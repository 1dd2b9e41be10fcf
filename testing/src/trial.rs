//! Tests by name, and the `main` of a test binary. Runs in the binary's first thread.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{patience, skip, watchdog};

/// Makes the tests of functions, each of which has its function's name. `how` is a function that
/// takes a name and a function and returns tests: [`once`],
/// `for_each_context`, or one of the test binary's own.
///
/// The order is that of the list. The compiler warns of a function that is in no list.
#[macro_export]
macro_rules! tests {
    ($($how:ident: [$($test:ident),+ $(,)?]),+ $(,)?) => {{
        let mut tests: Vec<$crate::Trial> = Vec::new();
        $($(tests.extend($how(stringify!($test), $test));)+)+
        tests
    }};
}

/// Returns the one test of a function.
pub fn once(name: &str, body: fn()) -> [Trial; 1] {
    [trial(name, body)]
}

/// Returns a test, which fails if `body` panics and is ended by the [watchdog](crate::watchdog) if
/// it hangs.
pub fn trial(name: &str, body: impl FnOnce() + Send + 'static) -> Trial {
    let own_name = name.to_owned();
    Trial::ignorable_test(name, move || {
        let watch = watchdog::watch(format!("test {own_name}"), patience());
        let ended = catch_unwind(AssertUnwindSafe(body));
        drop(watch);
        match ended {
            Ok(()) => Ok(Completion::Completed),
            Err(payload) => match skip::reason_of(&*payload) {
                Some(reason) => skip::judge(&own_name, reason).map(|()| Completion::ignored_with(reason)),
                None => Err(Failed::from(text_of(&*payload))),
            },
        }
    })
}

/// Runs the tests that the command line chooses, in this thread, and exits.
pub fn run(tests: Vec<Trial>) -> ! {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, tests).exit()
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panicked".into())
}
