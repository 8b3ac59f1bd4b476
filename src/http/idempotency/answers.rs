//! The answers that are remembered, in memory, and what of them has to be on disk.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use actix_web::http::StatusCode;
use multidb_store::ObservedTime;
use serde::{Deserialize, Serialize};

use crate::admin::api::ErrorInfo;
use crate::admin::server::failure::Failure;

/// How long an answer is remembered, in observed time.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// The answers that are remembered for one user. Beyond that, the oldest one goes.
const ANSWERS_OF_USER_MAX: usize = 256;
/// The bytes of all answers. Beyond that, the oldest ones go.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// A longer answer is not remembered.
const ONE_ANSWER_BYTES_MAX: usize = 256 << 10;
/// The requests with a key that are carried out for one user at a time: they go on when their clients leave.
const IN_PROGRESS_MAX: usize = 32;

/// The answers, and the requests that have none yet.
#[derive(Debug, Default)]
pub(super) struct Answers(HashMap<Key, Remembered>);

/// A user's key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) user: String,
    pub(super) key: String,
}

/// The method, path, query and body of a request, and the rights of its caller, hashed.
pub(super) type Fingerprint = [u8; 32];

/// An answer with its request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answered {
    pub(super) key: Key,
    pub(super) fingerprint: Fingerprint,
    /// When the request came.
    pub(super) since: ObservedTime,
    pub(super) answer: Answer,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    /// For the form that errors have here.
    pub(super) error: Option<ErrorInfo>,
    pub(super) body: String,
}

#[derive(Debug)]
struct Remembered {
    fingerprint: Fingerprint,
    since: ObservedTime,
    /// None while the request is carried out.
    answer: Option<Answer>,
}

/// The decision about a request.
#[derive(Debug)]
pub(super) enum Admission {
    /// It is carried out.
    First,
    /// Its answer is known.
    Repeated(Answer),
}

impl Answers {
    /// Remembers the answers of the daemon before. Returns the keys of those that are too many or too old.
    pub(super) fn take_up(&mut self, now: ObservedTime, all: Vec<Answered>) -> Vec<Key> {
        for answered in all {
            let remembered = Remembered {
                fingerprint: answered.fingerprint,
                since: answered.since,
                answer: Some(answered.answer),
            };
            self.0.insert(answered.key, remembered);
        }
        let mut forgotten = self.forget_old(now);
        let users: BTreeSet<String> = self.0.keys().map(|key| key.user.clone()).collect();
        for user in users {
            forgotten.extend(self.forget_excess_of(&user, None));
        }
        forgotten.extend(self.forget_excess_bytes(None));
        forgotten
    }

    /// Forgets what is too old. Returns its keys.
    pub(super) fn forget_old(&mut self, now: ObservedTime) -> Vec<Key> {
        let old = self.0.extract_if(|_, remembered| {
            remembered.answer.is_some() && now.since(remembered.since) >= REMEMBERED_FOR
        });
        old.map(|(key, _)| key).collect()
    }

    /// Decides about a request.
    ///
    /// # Errors
    ///
    /// The key is that of another request or of one without an answer, or its user has too many of these.
    pub(super) fn admit(
        &mut self,
        now: ObservedTime,
        key: &Key,
        fingerprint: Fingerprint,
    ) -> Result<Admission, Failure> {
        let of_user = self.0.iter().filter(|(other, _)| other.user == key.user);
        let in_progress = of_user.filter(|(_, one)| one.answer.is_none()).count();
        match self.0.entry(key.clone()) {
            Entry::Occupied(entry) if entry.get().fingerprint != fingerprint => Err(Failure::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "this Idempotency-Key was used for another request",
            )),
            Entry::Occupied(entry) => match &entry.get().answer {
                Some(answer) => Ok(Admission::Repeated(answer.clone())),
                None => Err(Failure::new(
                    StatusCode::CONFLICT,
                    "request_in_progress",
                    "the first request with this Idempotency-Key is being carried out",
                )
                .retry_after(Duration::from_secs(1))),
            },
            Entry::Vacant(_) if in_progress >= IN_PROGRESS_MAX => Err(Failure::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                format!("{IN_PROGRESS_MAX} requests are being carried out for this user"),
            )
            .retry_after(Duration::from_secs(1))),
            Entry::Vacant(entry) => {
                entry.insert(Remembered {
                    fingerprint,
                    since: now,
                    answer: None,
                });
                Ok(Admission::First)
            }
        }
    }

    /// Forgets a request that got no answer to remember.
    pub(super) fn forget(&mut self, key: &Key) {
        self.0.remove(key);
    }

    /// Remembers the answer to a request that was admitted. Returns it with its request, if it is not too long, and the keys of
    /// others that make room for it: it stays even where its request is the oldest, for a client that lost it.
    pub(super) fn remember(&mut self, key: &Key, answer: Answer) -> (Option<Answered>, Vec<Key>) {
        if answer.body.len() > ONE_ANSWER_BYTES_MAX {
            self.forget(key);
            return (None, Vec::new());
        }
        let answered = self.0.get_mut(key).map(|remembered| {
            remembered.answer = Some(answer.clone());
            Answered {
                key: key.clone(),
                fingerprint: remembered.fingerprint,
                since: remembered.since,
                answer,
            }
        });
        let mut forgotten = self.forget_excess_of(&key.user, Some(key));
        forgotten.extend(self.forget_excess_bytes(Some(key)));
        (answered, forgotten)
    }

    /// Forgets the oldest ones of a user that has too many, but not the one that is kept. Returns their keys.
    fn forget_excess_of(&mut self, user: &str, kept: Option<&Key>) -> Vec<Key> {
        let all = self.0.keys().filter(|key| key.user == user).count();
        let excess = all.saturating_sub(ANSWERS_OF_USER_MAX);
        let is_other = |key: &Key| key.user == user && Some(key) != kept;
        let forgotten = (0..excess).map_while(|_| self.forget_oldest(is_other));
        forgotten.collect()
    }

    /// Forgets the oldest ones of all while they are too long, but not the one that is kept. Returns their keys.
    fn forget_excess_bytes(&mut self, kept: Option<&Key>) -> Vec<Key> {
        let mut forgotten = Vec::new();
        while self.bytes() > ANSWER_BYTES_MAX {
            let Some(oldest) = self.forget_oldest(|key| Some(key) != kept) else {
                break;
            };
            forgotten.push(oldest);
        }
        forgotten
    }

    fn bytes(&self) -> usize {
        let answers = self.0.values().filter_map(|one| one.answer.as_ref());
        answers.map(|answer| answer.body.len()).sum()
    }

    fn forget_oldest(&mut self, which: impl Fn(&Key) -> bool) -> Option<Key> {
        let answered = self
            .0
            .iter()
            .filter(|(key, one)| which(key) && one.answer.is_some());
        let oldest = answered.min_by_key(|(_, one)| one.since);
        let oldest = oldest.map(|(key, _)| key.clone())?;
        self.0.remove(&oldest);
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(user: &str, key: &str) -> Key {
        Key {
            user: user.to_owned(),
            key: key.to_owned(),
        }
    }

    fn answer(bytes: usize) -> Answer {
        Answer {
            status: 200,
            content_type: None,
            error: None,
            body: "x".repeat(bytes),
        }
    }

    fn code(admission: Result<Admission, Failure>) -> String {
        match admission {
            Ok(Admission::First) => "first".to_owned(),
            Ok(Admission::Repeated(_)) => "repeated".to_owned(),
            Err(failure) => failure.code().to_owned(),
        }
    }

    #[test]
    fn key_stands_for_one_request_of_one_user_for_a_day() {
        let mut answers = Answers::default();
        let now = ObservedTime::from_millis(7);
        let admit = |answers: &mut Answers, key: &Key, fingerprint: u8| {
            code(answers.admit(now, key, [fingerprint; 32]))
        };
        let (alice, bob) = (key("alice", "k"), key("bob", "k"));
        assert_eq!(admit(&mut answers, &alice, 1), "first");
        assert_eq!(admit(&mut answers, &alice, 1), "request_in_progress");
        assert_eq!(admit(&mut answers, &bob, 1), "first");
        let (answered, forgotten) = answers.remember(&alice, answer(1));
        assert_eq!(answered.unwrap().since, now);
        assert!(forgotten.is_empty());
        assert_eq!(admit(&mut answers, &alice, 1), "repeated");
        assert_eq!(admit(&mut answers, &alice, 2), "idempotency_key_reused");
        answers.forget(&bob);
        assert_eq!(admit(&mut answers, &bob, 2), "first");
        assert!(answers.forget_old(now).is_empty());
        let later = now + REMEMBERED_FOR;
        assert_eq!(answers.forget_old(later), std::slice::from_ref(&alice));
        assert_eq!(admit(&mut answers, &alice, 2), "first");
        for number in 1..IN_PROGRESS_MAX {
            let key = key("alice", &number.to_string());
            assert_eq!(admit(&mut answers, &key, 0), "first");
        }
        let more = key("alice", "more");
        assert_eq!(admit(&mut answers, &more, 0), "too_many_requests");
    }

    #[test]
    fn answer_of_the_oldest_request_is_kept_for_its_client() {
        let mut answers = Answers::default();
        let slow = key("alice", "slow");
        let mut now = ObservedTime::default();
        assert_eq!(code(answers.admit(now, &slow, [0; 32])), "first");
        for number in 0..ANSWERS_OF_USER_MAX {
            now = now + Duration::from_millis(1);
            let quick = key("alice", &number.to_string());
            assert_eq!(code(answers.admit(now, &quick, [0; 32])), "first");
            answers.remember(&quick, answer(1));
        }
        let (answered, forgotten) = answers.remember(&slow, answer(1));
        assert_eq!(answered.unwrap().key, slow);
        assert!(!forgotten.contains(&slow));
        assert_eq!(code(answers.admit(now, &slow, [0; 32])), "repeated");
    }

    #[test]
    fn answers_are_bounded_and_a_user_forgets_its_own_first() {
        let mut answers = Answers::default();
        let mut now = ObservedTime::default();
        let mut kept = Vec::new();
        let mut add = |answers: &mut Answers, key: Key, bytes: usize| {
            now = now + Duration::from_millis(1);
            assert_eq!(code(answers.admit(now, &key, [0; 32])), "first");
            let (answered, forgotten) = answers.remember(&key, answer(bytes));
            kept.extend(answered);
            kept.retain(|one: &Answered| !forgotten.contains(&one.key));
        };
        add(&mut answers, key("bob", "k"), 1);
        for number in 0..2 * ANSWERS_OF_USER_MAX {
            add(&mut answers, key("alice", &number.to_string()), 1024);
        }
        assert_eq!(answers.0.len(), ANSWERS_OF_USER_MAX + 1);
        let of_bob = answers.admit(ObservedTime::default(), &key("bob", "k"), [0; 32]);
        assert_eq!(code(of_bob), "repeated");
        for number in 0..100 {
            add(
                &mut answers,
                key(&number.to_string(), "k"),
                ONE_ANSWER_BYTES_MAX,
            );
        }
        assert!(answers.bytes() <= ANSWER_BYTES_MAX);
        add(&mut answers, key("carol", "long"), ONE_ANSWER_BYTES_MAX + 1);
        assert_eq!(
            code(answers.admit(now, &key("carol", "long"), [0; 32])),
            "first"
        );
        answers.forget(&key("carol", "long"));
        // What was told of is what there is.
        assert_eq!(kept.len(), answers.0.len());
        let mut again = Answers::default();
        assert!(again.take_up(now, kept).is_empty());
        assert_eq!(again.0.len(), answers.0.len());
    }
}
