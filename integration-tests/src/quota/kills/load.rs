//! Clients as the broker is one: they keep their leases alive, announce them again, repeat what is not answered, and know what
//! was paid for.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::sync::Notify;
use tokio::time::sleep;
use weir_proto::quota::v1::settle::Action;
use weir_proto::quota::v1::{ExtendRequest, ReserveRequest, ReserveResponse};
use weir_types::OrganizationId;

use super::super::calls::{Calls, Decision, commit, extension, release, request};
use super::super::fleet::Client;
use super::super::limits::amounts;
use super::ASKED;

const LEASE: Duration = Duration::from_secs(60);
/// Several times in the window in which money is closed.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// Clients of one organisation, and what they know.
pub(super) struct Load {
    calls: Calls,
    tenant: OrganizationId,
    live: RefCell<BTreeMap<String, (ReserveRequest, ReserveResponse)>>,
    paid: RefCell<Vec<String>>,
    most: Cell<usize>,
    refusal: RefCell<String>,
    progress: Notify,
    done: Cell<bool>,
}

impl Load {
    pub(super) fn new(clients: Vec<Client>, tenant: OrganizationId) -> Self {
        Self {
            calls: Calls::new(clients),
            tenant,
            live: RefCell::default(),
            paid: RefCell::default(),
            most: Cell::new(0),
            refusal: RefCell::default(),
            progress: Notify::new(),
            done: Cell::new(false),
        }
    }

    /// Until every client was refused, and what fits then was admitted.
    pub(super) async fn run(&self, clients: usize) -> anyhow::Result<()> {
        let work = async {
            try_join_all((0..clients).map(|number| async move {
                // Of different lengths, so that a kill meets calls in each of their stages, and many of them outlive a rebuild.
                let work = Duration::from_millis([5, 60, 400, 2_500][number % 4]);
                while self.call(work).await? {}
                anyhow::Ok(())
            }))
            .await?;
            // After a loss a refusal may be too careful. With nothing under way any more, what fits must be admitted.
            while self.call(Duration::ZERO).await? {}
            self.done.set(true);
            self.progress.notify_one();
            anyhow::Ok(())
        };
        tokio::try_join!(work, self.heartbeat()).map(drop)
    }

    /// Waits until so many calls are paid for, or all is done.
    pub(super) async fn reached(&self, count: usize) {
        while self.paid.borrow().len() < count && !self.done.get() {
            self.progress.notified().await;
        }
    }

    /// Every call that was paid for.
    pub(super) fn paid(&self) -> Vec<String> {
        self.paid.borrow().clone()
    }

    /// The most calls that were under way at once.
    pub(super) fn most_at_once(&self) -> usize {
        self.most.get()
    }

    /// What the last refusal said.
    pub(super) fn last_refusal(&self) -> String {
        self.refusal.borrow().clone()
    }

    /// One call from the first to the last; false if the budget refused it.
    async fn call(&self, work: Duration) -> anyhow::Result<bool> {
        let (request, reserved) = loop {
            let request = request(&self.tenant, &amounts(&ASKED), LEASE);
            match self.calls.reserve(&request).await? {
                Decision::Admitted(reserved) => break (request, reserved),
                Decision::Refused(failure) => {
                    let waits = failure.figure("at-once", "cap").is_some() && failure.violations().len() == 1;
                    if !waits {
                        *self.refusal.borrow_mut() = failure.to_string();
                        return Ok(false);
                    }
                    sleep(Duration::from_millis(10)).await;
                }
            }
        };
        let id = request.reservation_id.clone();
        self.live.borrow_mut().insert(id.clone(), (request.clone(), reserved.clone()));
        self.most.set(self.most.get().max(self.live.borrow().len()));
        sleep(work).await;
        // One in eight calls does not reach its provider.
        let used = !id.ends_with(['0', '1']);
        // Before the call that gives the place free: it is not under way from then on, whenever the answer comes.
        let ended = self.live.borrow_mut().remove(&id);
        let action = if used {
            Action::Commit(commit(&request, &reserved))
        } else {
            Action::Release(release(&request, &reserved))
        };
        self.calls.settle(vec![action]).await?;
        drop(ended);
        if used {
            self.paid.borrow_mut().push(id);
            self.progress.notify_one();
        }
        Ok(true)
    }

    async fn heartbeat(&self) -> anyhow::Result<()> {
        while !self.done.get() {
            let leases: Vec<_> =
                self.live.borrow().values().map(|(request, reserved)| extension(request, reserved)).collect();
            if !leases.is_empty() {
                let message = ExtendRequest { leases };
                let (answer, _) =
                    self.calls.until_answered(&message, async |mut to, message| to.extend(message).await).await?;
                answer.map_err(|failure| anyhow::anyhow!("leases can't be lengthened: {failure}"))?;
            }
            sleep(HEARTBEAT).await;
        }
        Ok(())
    }
}
